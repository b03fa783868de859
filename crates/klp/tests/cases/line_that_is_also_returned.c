// expect: changed f
// expect: outside __might_sleep
// The number reaches more than the warning.
void __might_sleep(const char *, int);

int f(int x)
{
#ifdef PATCHED
	int n = 17;
#else
	int n = 16;
#endif
	__might_sleep("unit.c", n);
	return n + x;
}
