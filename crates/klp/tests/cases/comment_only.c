// expect: changed none
// Only comments and blank lines differ.
#ifdef PATCHED
/* more to read */


#endif
int g(int);

int f(int x)
{
	return g(x) + 1;
}
