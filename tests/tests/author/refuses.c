#include <livepatch/author.h>

static int refuse_to_come(struct klp_object *object)
{
	pr_info("livepatch: the second unit: pre-patch\n");
	return -EBUSY;
}
LIVEPATCH_PRE_PATCH(refuse_to_come);

static void was_undone(struct klp_object *object)
{
	pr_info("livepatch: the second unit: post-unpatch\n");
}
LIVEPATCH_POST_UNPATCH(was_undone);

