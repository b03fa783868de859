// expect: refused author-mark pre_patch
// Two callbacks of one kind in one unit have no order that the author can have meant.
int f(int x)
{
	return x + 1;
}

#ifdef PATCHED
static int first(void *object)
{
	return 0;
}

static int second(void *object)
{
	return 1;
}

static int (*const a)(void *) __attribute__((used, section(".livepatch.callbacks.pre_patch"))) = first;
static int (*const b)(void *) __attribute__((used, section(".livepatch.callbacks.pre_patch"))) = second;
#endif
