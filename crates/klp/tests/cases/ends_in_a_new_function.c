// expect: changed f
// expect: added helper
// expect: ended-in helper
// expect: outside g
// The stack of a task in the new function would not show that it is in the livepatch.
int g(int);

#ifdef PATCHED
static __attribute__((noinline)) int helper(int x)
{
	return g(x) + g(x + 1);
}
#endif

int f(int x)
{
#ifdef PATCHED
	if (x < 0)
		return 0;
	return helper(x);
#else
	return x;
#endif
}
