/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * kpatch's names for the definitions of system calls. kpatch cannot patch what the ordinary ones make; livepatch-build
 * can, so that they are the same here.
 */
#ifndef LIVEPATCH_KPATCH_SYSCALL_H
#define LIVEPATCH_KPATCH_SYSCALL_H

#include <linux/syscalls.h>
#include "kpatch-macros.h"

#define KPATCH_SYSCALL_DEFINE1(...)	SYSCALL_DEFINE1(__VA_ARGS__)
#define KPATCH_SYSCALL_DEFINE2(...)	SYSCALL_DEFINE2(__VA_ARGS__)
#define KPATCH_SYSCALL_DEFINE3(...)	SYSCALL_DEFINE3(__VA_ARGS__)
#define KPATCH_SYSCALL_DEFINE4(...)	SYSCALL_DEFINE4(__VA_ARGS__)
#define KPATCH_SYSCALL_DEFINE5(...)	SYSCALL_DEFINE5(__VA_ARGS__)
#define KPATCH_SYSCALL_DEFINE6(...)	SYSCALL_DEFINE6(__VA_ARGS__)

#endif
