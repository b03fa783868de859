// expect: refused not-traceable helper.constprop.0
// A clone of a function that cannot be traced.
int g(int);

static __attribute__((noinline, no_instrument_function)) int helper(int x, int y)
{
#ifdef PATCHED
	if (x < 0)
		return -22;
#endif
	return g(x + y) + g(x) * g(y);
}

int f(int x)
{
	return helper(x, 3) + 1;
}
