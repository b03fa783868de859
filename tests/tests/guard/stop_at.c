/*
 * Stops a process at a system call: stop_at PID (WHEN CALL PATH CONTENT)...
 *
 * WHEN is enter or leave (with success), PATH how the path begins that the call is about, CONTENT what the file must
 * have in it. Each condition is waited for after the one before it. Then says "stopped": every thread of the process
 * stays at its next system call, and the machine can be switched off.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

enum about { BY_DESCRIPTOR, BY_NAME };

/* The argument that says what a call is about. */
static const struct call {
	const char *name;
	long number;
	enum about about;
	int argument;
} calls[] = {
	{ "write", SYS_write, BY_DESCRIPTOR, 0 },
	{ "fsync", SYS_fsync, BY_DESCRIPTOR, 0 },
	{ "finit_module", SYS_finit_module, BY_DESCRIPTOR, 0 },
	{ "openat", SYS_openat, BY_NAME, 1 },
	{ "rename", SYS_rename, BY_NAME, 1 },
	{ "rename", SYS_renameat, BY_NAME, 3 },
	{ "rename", SYS_renameat2, BY_NAME, 3 },
	{ "delete_module", SYS_delete_module, BY_NAME, 0 },
};

/* The call that a thread is in. */
struct thread {
	pid_t id;
	const struct call *call;
	char path[512];
	char file[64];
};

static struct thread threads[256];
static char content[1 << 20];

static void fail(const char *what)
{
	perror(what);
	exit(1);
}

static struct thread *thread(pid_t id)
{
	for (size_t i = 0; i < sizeof(threads) / sizeof(*threads); i++) {
		if (threads[i].id == id || !threads[i].id) {
			threads[i].id = id;
			return &threads[i];
		}
	}
	errno = EMFILE;
	fail("threads");
	return NULL;
}

static void entered(struct thread *thread, const struct __ptrace_syscall_info *info)
{
	thread->call = NULL;
	for (size_t i = 0; i < sizeof(calls) / sizeof(*calls); i++)
		if (calls[i].number == (long)info->entry.nr)
			thread->call = &calls[i];
	if (!thread->call)
		return;
	unsigned long argument = info->entry.args[thread->call->argument];
	memset(thread->path, 0, sizeof(thread->path));
	if (thread->call->about == BY_DESCRIPTOR) {
		snprintf(thread->file, sizeof(thread->file), "/proc/%d/fd/%d", thread->id, (int)argument);
		if (readlink(thread->file, thread->path, sizeof(thread->path) - 1) < 0)
			thread->path[0] = 0;
		return;
	}
	thread->file[0] = 0;
	/* Byte by byte: what comes after the end may not be there. */
	for (size_t i = 0; i < sizeof(thread->path) - 1; i++) {
		struct iovec here = { &thread->path[i], 1 }, there = { (void *)(argument + i), 1 };
		if (process_vm_readv(thread->id, &here, 1, &there, 1, 0) != 1 || !thread->path[i])
			break;
	}
}

static int has(const struct thread *thread, const char *wanted)
{
	if (!*wanted)
		return 1;
	int file = open(*thread->file ? thread->file : thread->path, O_RDONLY);
	if (file < 0)
		return 0;
	ssize_t length = pread(file, content, sizeof(content) - 1, 0);
	close(file);
	content[length < 0 ? 0 : length] = 0;
	return strstr(content, wanted) != NULL;
}

/* Whether a thread that is in a call meets a condition. */
static int meets(const struct thread *thread, const char *when, char **condition)
{
	return thread->call && !strcmp(when, condition[0]) && !strcmp(thread->call->name, condition[1]) &&
	       !strncmp(thread->path, condition[2], strlen(condition[2])) && has(thread, condition[3]);
}

static int met(pid_t id, char **condition)
{
	struct thread *here = thread(id);
	struct __ptrace_syscall_info info;
	if (ptrace(PTRACE_GET_SYSCALL_INFO, id, sizeof(info), &info) <= 0)
		return 0;
	if (info.op == PTRACE_SYSCALL_INFO_ENTRY) {
		entered(here, &info);
		return meets(here, "enter", condition);
	}
	int yes = info.op == PTRACE_SYSCALL_INFO_EXIT && !info.exit.is_error && meets(here, "leave", condition);
	here->call = NULL;
	return yes;
}

static void attach(const char *process)
{
	char path[64];
	snprintf(path, sizeof(path), "/proc/%s/task", process);
	DIR *tasks = opendir(path);
	if (!tasks)
		fail(path);
	for (struct dirent *task; (task = readdir(tasks));) {
		pid_t id = atoi(task->d_name);
		if (!id)
			continue;
		if (ptrace(PTRACE_SEIZE, id, 0, PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACECLONE) ||
		    ptrace(PTRACE_INTERRUPT, id, 0, 0))
			fail("ptrace");
	}
	closedir(tasks);
}

int main(int argc, char **argv)
{
	if (argc < 6 || (argc - 2) % 4)
		return 2;
	setvbuf(stdout, NULL, _IOLBF, 0);
	attach(argv[1]);
	puts("ready");
	char **condition = argv + 2;
	for (;;) {
		int status;
		pid_t id = waitpid(-1, &status, __WALL);
		if (id < 0)
			fail("waitpid");
		if (!WIFSTOPPED(status))
			continue;
		int signal = WSTOPSIG(status), event = status >> 16;
		if (signal == (SIGTRAP | 0x80)) {
			if (met(id, condition)) {
				condition += 4;
				if (!*condition)
					break;
			}
			signal = 0;
		} else if (event) {
			signal = 0;
		}
		/* It may be gone. */
		ptrace(PTRACE_SYSCALL, id, 0, signal);
	}
	puts("stopped");
	for (;;)
		pause();
}
