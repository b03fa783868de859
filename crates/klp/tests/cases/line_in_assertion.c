// expect: changed f
// An assertion that prints function and line; the line moved, nothing else did.
int _printk(const char *, ...);
#define assert(x)                                                                       \
	do {                                                                            \
		if (!(x)) {                                                             \
			_printk("\nAssertion failure in %s() at line %d:\n\n\tassert(%s);\n\n", __func__, __LINE__, #x); \
			__builtin_trap();                                               \
		}                                                                       \
	} while (0)

int f(int x)
{
#ifdef PATCHED
	if (x < 0)
		return 0;

#line 100
#endif
	return x;
}

int g(int x)
{
	assert(x > 3);
	return x + 1;
}
