#include <livepatch/author.h>
#include <linux/slab.h>

/*
 * Since when offsets of time namespaces are checked: those that were set before may be wrong. The next livepatch takes
 * over what this one found.
 */
#define OFFSETS_CHECKED_SINCE 93146
LIVEPATCH_STATE(OFFSETS_CHECKED_SINCE, 1);

static int take_checked_since(struct klp_object *object)
{
	struct klp_state *before = livepatch_previous_state(OFFSETS_CHECKED_SINCE);
	struct klp_state *state = livepatch_state(OFFSETS_CHECKED_SINCE);
	time64_t now = ktime_get_boottime_seconds();

	if (before) {
		state->data = before->data;
		return 0;
	}
	state->data = kmemdup(&now, sizeof(now), GFP_KERNEL);
	return state->data ? 0 : -ENOMEM;
}
LIVEPATCH_PRE_PATCH(take_checked_since);

static void tell_checked_since(struct klp_object *object)
{
	pr_info("livepatch: offsets of time namespaces are checked since second %lld\n",
		*(time64_t *)livepatch_state(OFFSETS_CHECKED_SINCE)->data);
}
LIVEPATCH_POST_PATCH(tell_checked_since);

static void drop_checked_since(struct klp_object *object)
{
	/* Called off: the livepatch before this one goes on. */
	if (!livepatch_previous_state(OFFSETS_CHECKED_SINCE))
		kfree(livepatch_state(OFFSETS_CHECKED_SINCE)->data);
}
LIVEPATCH_POST_UNPATCH(drop_checked_since);

