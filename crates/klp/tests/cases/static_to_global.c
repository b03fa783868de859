// expect: changed f
// The same function, visible from outside now: no change by itself.
#ifndef PATCHED
static
#endif
__attribute__((noinline, used)) int helper(int x)
{
	return x * 3;
}

int f(int x)
{
#ifdef PATCHED
	return x;
#else
	return helper(x);
#endif
}
