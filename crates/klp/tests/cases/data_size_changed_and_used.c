// expect: refused data-changed table
// Code for eight would read behind the four that the running kernel has.
#ifdef PATCHED
int table[8];
#else
int table[4];
#endif

int f(int x)
{
	if (x >= (int)(sizeof(table) / sizeof(table[0])))
		return 0;
	return table[x];
}
