// expect: changed f
// expect: outside exported
// A plain change; the unchanged neighbour stays where it is.
int exported(int);

int f(int x)
{
#ifdef PATCHED
	if (x < 0)
		return -22;
#endif
	return exported(x);
}

int neighbour(int x)
{
	return exported(x) + 1;
}
