// expect: changed none
// expect: omitted data-changed table
// No function of the livepatch uses the variable in its new size: it can be left out.
#ifdef PATCHED
int table[8];
#else
int table[4];
#endif

int f(int x)
{
	return table[x];
}
