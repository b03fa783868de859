// expect: changed none
// expect: omitted init-changed start
// Init code has run already.
int g(int);

__attribute__((section(".init.text"))) int start(void)
{
#ifdef PATCHED
	return g(2);
#else
	return g(1);
#endif
}
