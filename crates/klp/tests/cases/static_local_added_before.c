// expect: refused ambiguous x.1
// A second variable of the same name: which one is the old one is not certain.
void print(int *);

void f(int y)
{
#ifdef PATCHED
	{
		static int x;
		print(&x);
	}
#endif
	static int x;
	print(&x);
}
