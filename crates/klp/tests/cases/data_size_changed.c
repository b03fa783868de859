// expect: refused data-changed table
#ifdef PATCHED
int table[8];
#else
int table[4];
#endif

int f(int x)
{
	return table[x];
}
