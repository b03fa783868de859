// expect: refused author-mark f_too.constprop.0
// A clone is called as the compiler likes: old code and new callers may disagree.
int exported(int);

static __attribute__((noinline)) int f_too(int x, int y)
{
#ifdef PATCHED
	if (x < 0)
		return -22;
#endif
	return exported(x + y) + exported(x);
}

int f(int x)
{
	return f_too(x, 3) + 1;
}

int g(int x)
{
	return f_too(x, 3) + 2;
}

#ifdef PATCHED
static const char a[] __attribute__((used, section(".livepatch.leave_out"), aligned(1))) = "f_too.constprop.0=why not";
#endif
