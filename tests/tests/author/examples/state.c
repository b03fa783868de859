#include <livepatch/author.h>
#include <linux/panic.h>
#include <linux/slab.h>

/* After a panic the machine starts again in ten seconds. What was set before is kept as long as that is so. */
#define REBOOT_SECONDS 10
#define PANIC_TIMEOUT 74108
LIVEPATCH_STATE(PANIC_TIMEOUT, 1);

static int take_panic_timeout(struct klp_object *object)
{
	struct klp_state *before = livepatch_previous_state(PANIC_TIMEOUT);
	struct klp_state *state = livepatch_state(PANIC_TIMEOUT);

	if (before) {
		state->data = before->data;
		return 0;
	}
	state->data = kmemdup(&panic_timeout, sizeof(panic_timeout), GFP_KERNEL);
	return state->data ? 0 : -ENOMEM;
}
LIVEPATCH_PRE_PATCH(take_panic_timeout);

static void set_panic_timeout(struct klp_object *object)
{
	panic_timeout = REBOOT_SECONDS;
}
LIVEPATCH_POST_PATCH(set_panic_timeout);

static void restore_panic_timeout(struct klp_object *object)
{
	/* Called off: the livepatch before this one goes on. */
	if (livepatch_previous_state(PANIC_TIMEOUT))
		return;
	panic_timeout = *(int *)livepatch_state(PANIC_TIMEOUT)->data;
}
LIVEPATCH_PRE_UNPATCH(restore_panic_timeout);

static void drop_panic_timeout(struct klp_object *object)
{
	if (!livepatch_previous_state(PANIC_TIMEOUT))
		kfree(livepatch_state(PANIC_TIMEOUT)->data);
}
LIVEPATCH_POST_UNPATCH(drop_panic_timeout);

