#include <livepatch/author.h>

/* Readers whose entry an earlier failure took away stay without it: what a person should know who looks at the log. */
static int pipe_fix_comes(struct klp_object *object)
{
	pr_info("livepatch: pipes opened before keep the SIGIO readers that they have now\n");
	return 0;
}
LIVEPATCH_PRE_PATCH(pipe_fix_comes);

static void pipe_fix_is_gone(struct klp_object *object)
{
	pr_info("livepatch: a writer's failed FIOASYNC may take a pipe's SIGIO reader away again\n");
}
LIVEPATCH_POST_UNPATCH(pipe_fix_is_gone);

