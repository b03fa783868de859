#include "kpatch-macros.h"

static int kpatch_before(patch_object *obj)
{
	KPATCH_PRINTK("livepatch: as kpatch would: pre-patch\n");
	return 0;
}
KPATCH_PRE_PATCH_CALLBACK(kpatch_before);

static void kpatch_after(patch_object *obj)
{
	KPATCH_PRINTK("livepatch: as kpatch would: post-unpatch\n");
}
KPATCH_POST_UNPATCH_CALLBACK(kpatch_after);
KPATCH_IGNORE_FUNCTION(cmdline_proc_show);

