// expect: changed none
// expect: omitted not-traceable helper
// Others may call it by its address: its callers are not all known.
int g(int);
int (*known)(int);

static __attribute__((noinline, no_instrument_function)) int helper(int x)
{
#ifdef PATCHED
	if (x < 0)
		return -22;
#endif
	return g(x) * g(x + 1);
}

int f(int x)
{
	known = helper;
	return helper(x) + 1;
}
