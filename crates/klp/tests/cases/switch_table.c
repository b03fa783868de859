// expect: changed f
// expect: added f.cold
// expect: outside a, b, c, d, e
// flags: -fjump-tables
// A switch's table comes along with its function, and not that of the neighbour.
int a(void), b(void), c(void), d(void), e(void), k(void);

int f(int x)
{
	switch (x) {
	case 0: return a();
	case 1: return b() + 1;
	case 2: return c() + 2;
	case 3: return d() + 3;
#ifdef PATCHED
	case 4: return e() + 5;
#else
	case 4: return e() + 4;
#endif
	}
	return 0;
}

int neighbour(int x)
{
	switch (x) {
	case 0: return k();
	case 1: return b() - 1;
	case 2: return c() - 2;
	case 3: return d() - 3;
	case 4: return e() - 4;
	}
	return 0;
}
