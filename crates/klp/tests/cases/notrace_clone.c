// expect: changed f
// expect: added helper.constprop.0
// expect: outside g
// A clone of a function that cannot be traced goes along with its only caller, which can be.
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
