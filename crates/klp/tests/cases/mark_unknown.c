// expect: refused author-mark .livepatch.callbacks.midnight
// A mark of another version, or a misspelt one, must not be passed over.
int f(int x)
{
	return x + 1;
}

#ifdef PATCHED
static int at_midnight(void *object)
{
	return 0;
}

static int (*const a)(void *) __attribute__((used, section(".livepatch.callbacks.midnight"))) = at_midnight;
#endif
