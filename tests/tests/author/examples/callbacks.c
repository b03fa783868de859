#include <livepatch/author.h>

static const char *object_name(struct klp_object *object)
{
	return object->name ? object->name : "vmlinux";
}

static int before_patching(struct klp_object *object)
{
	pr_info("livepatch: %s: pre-patch\n", object_name(object));
	return 0;
}
LIVEPATCH_PRE_PATCH(before_patching);

static void after_patching(struct klp_object *object)
{
	pr_info("livepatch: %s: post-patch\n", object_name(object));
}
LIVEPATCH_POST_PATCH(after_patching);

static void before_unpatching(struct klp_object *object)
{
	pr_info("livepatch: %s: pre-unpatch\n", object_name(object));
}
LIVEPATCH_PRE_UNPATCH(before_unpatching);

static void after_unpatching(struct klp_object *object)
{
	pr_info("livepatch: %s: post-unpatch\n", object_name(object));
}
LIVEPATCH_POST_UNPATCH(after_unpatching);

