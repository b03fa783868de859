// expect: changed f
// expect: outside x
// A function of two names is one function.
int x(int);

int f(int y)
{
#ifdef PATCHED
	return x(y) + 2;
#else
	return x(y) + 1;
#endif
}

extern int g(int) __attribute__((alias("f")));
