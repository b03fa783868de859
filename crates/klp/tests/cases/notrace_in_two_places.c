// expect: changed f
// expect: added helper.cold, helper
// expect: outside g, report
// Its cold part jumps back into it: that is no other caller.
int g(int);
void __attribute__((cold)) report(int);

static __attribute__((noinline, no_instrument_function)) int helper(int x)
{
#ifdef PATCHED
	if (x < 0)
		return -22;
#endif
	if (__builtin_expect(x > 100, 0)) {
		report(x);
		x = g(1);
	}
	return g(x) * g(x + 1);
}

int f(int x)
{
	return helper(x) + 1;
}
