/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * kpatch's names for what livepatch/author.h has, so that patches written for kpatch need no edits.
 */
#ifndef LIVEPATCH_KPATCH_MACROS_H
#define LIVEPATCH_KPATCH_MACROS_H

#include <linux/jiffies.h>
#include <linux/printk.h>
#include <livepatch/author.h>

typedef struct klp_object patch_object;

#define KPATCH_PRE_PATCH_CALLBACK(function)	LIVEPATCH_PRE_PATCH(function)
#define KPATCH_POST_PATCH_CALLBACK(function)	LIVEPATCH_POST_PATCH(function)
#define KPATCH_PRE_UNPATCH_CALLBACK(function)	LIVEPATCH_PRE_UNPATCH(function)
#define KPATCH_POST_UNPATCH_CALLBACK(function)	LIVEPATCH_POST_UNPATCH(function)

/* These have no room for a reason: a person must still argue what is left out (livepatch-build --argue). */
#define KPATCH_IGNORE_FUNCTION(function)	LIVEPATCH_LEAVE_OUT_NAMED(#function, "")
#define KPATCH_IGNORE_SECTION(section)		LIVEPATCH_LEAVE_OUT_NAMED(section, "")

/* The kernel's livepatching has no way to apply a patch to a function that is running. */
#define KPATCH_FORCE_UNSAFE(function) \
	_Static_assert(0, "KPATCH_FORCE_UNSAFE(" #function "): livepatches are always applied consistently")

/* Behind a condition that is always true and that the compiler cannot see through: the code around stays as it was. */
#define KPATCH_PRINTK(...)		do { if (jiffies) printk(__VA_ARGS__); } while (0)
#define KPATCH_PRINTK_DEFERRED(...)	do { if (jiffies) printk_deferred(__VA_ARGS__); } while (0)

/* A static call as an ordinary indirect one. */
#define KPATCH_STATIC_CALL(name)	((typeof(&STATIC_CALL_TRAMP(name)))READ_ONCE(STATIC_CALL_KEY(name).func))

#endif
