// expect: changed f
// expect: outside print, x.1
// Variables of one name in two functions: each keeps its own, though the compiler numbers them anew.
void print(int *);

void f(void)
{
	static int x;
#ifdef PATCHED
	if (x > 100)
		return;
#endif
	print(&x);
}

void g(void)
{
	static int x;
	print(&x);
}
