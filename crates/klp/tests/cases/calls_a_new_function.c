// flags: -fno-optimize-sibling-calls
// expect: changed f
// expect: added helper
// expect: outside g
// A call leaves the redirected function on the stack.
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
	return helper(x);
#else
	return x;
#endif
}
