/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * What the author of a livepatch says to the kernel and to livepatch-build. A source patch includes it in the files
 * that need it:
 *
 *	#include <livepatch/author.h>
 *
 * docs/patch-authors.md says when and how. Only patched units see this directory.
 */
#ifndef LIVEPATCH_AUTHOR_H
#define LIVEPATCH_AUTHOR_H

#include <linux/compiler.h>
#include <linux/livepatch.h>
#include <linux/version.h>

/*
 * Callbacks of the object (vmlinux or module) that this unit belongs to; struct klp_callbacks in linux/livepatch.h.
 * For a module that is loaded after the livepatch they run when it is loaded, before its init function.
 *
 *	static int prepare(struct klp_object *object) { return 0; }
 *	LIVEPATCH_PRE_PATCH(prepare);
 *
 * A pre-patch callback that fails stops the livepatch, or the loading of the module. One of each kind per unit.
 */
#define LIVEPATCH_PRE_PATCH(function)		LIVEPATCH_CALLBACK(pre_patch, int, function)
#define LIVEPATCH_POST_PATCH(function)		LIVEPATCH_CALLBACK(post_patch, void, function)
#define LIVEPATCH_PRE_UNPATCH(function)		LIVEPATCH_CALLBACK(pre_unpatch, void, function)
#define LIVEPATCH_POST_UNPATCH(function)	LIVEPATCH_CALLBACK(post_unpatch, void, function)

#define LIVEPATCH_CALLBACK(hook, result, function)						\
	static result (*const __UNIQUE_ID(livepatch_callback))(struct klp_object *object)	\
		__used __section(".livepatch.callbacks." #hook) = function

/*
 * A change of the system that the livepatch makes and that a later one must know: `id` (not 0) for good, `version`
 * higher whenever the meaning changes. The kernel refuses to replace a livepatch by one that lacks one of its states or
 * has a lower version of it. Kernels since 5.5.
 *
 *	LIVEPATCH_STATE(4711, 1);
 */
#define LIVEPATCH_STATE(id, version)								\
	static const struct livepatch_state_mark __UNIQUE_ID(livepatch_state)			\
		__used __section(".livepatch.states") __aligned(8) = { (id), (version) }

struct livepatch_state_mark {
	unsigned long id;
	unsigned int version;
};

#if LINUX_VERSION_CODE >= KERNEL_VERSION(5, 5, 0)
/* The livepatch itself. */
extern struct klp_patch livepatch_patch;

/* This livepatch's state, or NULL. What a callback stores in `data` goes over to the next livepatch. */
static inline struct klp_state *livepatch_state(unsigned long id)
{
	return klp_get_state(&livepatch_patch, id);
}

/* The same of the livepatch that is being replaced; NULL when there is none or it does not have the state. */
static inline struct klp_state *livepatch_previous_state(unsigned long id)
{
	return klp_get_prev_state(id);
}
#endif

/*
 * Something that the patch changes and that the livepatch deliberately does not: a function keeps its old code; changes
 * that no livepatch can carry (code of boot time, exports, values of variables) are argued. `place` is what
 * `livepatch-build check` calls it, the reason goes into the report.
 *
 *	LIVEPATCH_LEAVE_OUT(setup_widget, "ran at boot; widgets made later go through make_widget");
 */
#define LIVEPATCH_LEAVE_OUT(place, reason)	LIVEPATCH_LEAVE_OUT_NAMED(#place, reason)

#define LIVEPATCH_LEAVE_OUT_NAMED(place, reason)						\
	static const char __UNIQUE_ID(livepatch_leave_out)[]					\
		__used __section(".livepatch.leave_out") __aligned(1) = place "=" reason

#endif
