// expect: changed f
// expect: outside empty_zero_page
// An address far from its symbol keeps its distance.
extern char empty_zero_page[];

unsigned long f(unsigned long x)
{
#ifdef PATCHED
	return x + ((unsigned long)empty_zero_page + 0x77777000);
#else
	return x;
#endif
}
