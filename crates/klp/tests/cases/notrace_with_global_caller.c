// expect: changed none
// expect: omitted not-traceable f
// The only caller can be called from elsewhere and cannot be traced.
int g(int);

static __attribute__((noinline, no_instrument_function)) int helper(int x)
{
#ifdef PATCHED
	if (x < 0)
		return -22;
#endif
	return g(x) * g(x + 1);
}

__attribute__((no_instrument_function)) int f(int x)
{
	return helper(x) + 1;
}
