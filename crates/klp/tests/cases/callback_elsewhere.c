// expect: refused author-mark .livepatch.callbacks.pre_patch
// A callback is in the unit that names it: that says which object it is for.
int f(int x)
{
	return x + 1;
}

#ifdef PATCHED
int elsewhere(void *object);

static int (*const a)(void *) __attribute__((used, section(".livepatch.callbacks.pre_patch"))) = elsewhere;
#endif
