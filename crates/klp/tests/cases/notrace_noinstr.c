// expect: changed none
// expect: omitted not-traceable helper
// Code in a section that must not be instrumented stays there.
int g(int);

static __attribute__((noinline, no_instrument_function, section(".noinstr.text"))) int helper(int x)
{
#ifdef PATCHED
	if (x < 0)
		return -22;
#endif
	return g(x) * g(x + 1);
}

int f(int x)
{
	return helper(x) + 1;
}
