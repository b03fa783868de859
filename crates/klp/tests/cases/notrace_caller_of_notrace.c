// expect: changed f
// expect: added helper, middle
// expect: outside g
// Neither the function nor its caller can be traced; that one's callers can.
int g(int);

static __attribute__((noinline, no_instrument_function)) int helper(int x)
{
#ifdef PATCHED
	if (x < 0)
		return -22;
#endif
	return g(x) * g(x + 1);
}

static __attribute__((noinline, no_instrument_function)) int middle(int x)
{
	return helper(x) + g(x);
}

int f(int x)
{
	return middle(x) + 1;
}
