// expect: refused author-mark f
// What the kernel has already is no callback: it would be redirected, or outlive the livepatch.
int f(void *object)
{
#ifdef PATCHED
	if (!object)
		return -22;
#endif
	return 0;
}

#ifdef PATCHED
static int (*const a)(void *) __attribute__((used, section(".livepatch.callbacks.pre_patch"))) = f;
#endif
