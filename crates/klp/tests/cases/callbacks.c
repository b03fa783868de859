// expect: changed f
// expect: added finish, prepare, prepared
// expect: callbacks pre_patch prepare, post_unpatch finish
// expect: outside exported
// expect: section .discard.ibt_endbr_noseal 16
// expect: section .livepatch.callbacks.pre_patch 0
// Callbacks come along with what they need; their marks do not.
int exported(int);

int f(int x)
{
#ifdef PATCHED
	if (x < 0)
		return -22;
#endif
	return exported(x);
}

#ifdef PATCHED
static volatile int prepared;

static int prepare(void *object)
{
	prepared = exported(1);
	return 0;
}

static void finish(void *object)
{
	prepared = 0;
}

static int (*const a)(void *) __attribute__((used, section(".livepatch.callbacks.pre_patch"))) = prepare;
static void (*const b)(void *) __attribute__((used, section(".livepatch.callbacks.post_unpatch"))) = finish;
#endif
