// expect: added prepare
// expect: callbacks pre_patch prepare
// expect: outside exported
// A patch may be nothing but what happens when it comes.
int exported(int);

int f(int x)
{
	return exported(x);
}

#ifdef PATCHED
static int prepare(void *object)
{
	return exported(1);
}

static int (*const a)(void *) __attribute__((used, section(".livepatch.callbacks.pre_patch"))) = prepare;
#endif
