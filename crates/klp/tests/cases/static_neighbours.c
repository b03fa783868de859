// expect: changed f
// expect: outside counter, helper
// Local functions and variables of the kernel are referred to, not copied.
static int counter;
static char name[16];

static __attribute__((noinline)) int helper(int x)
{
	return x + counter++;
}

int f(int x)
{
#ifdef PATCHED
	if (x > 7)
		return 0;
#endif
	return helper(x) + counter;
}

char *g(int x)
{
	return name + helper(x);
}
