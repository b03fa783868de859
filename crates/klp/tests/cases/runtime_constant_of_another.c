// expect: changed g
// A function with a runtime constant that stays behind is nobody's concern.
int f(unsigned long address)
{
	unsigned long bound;

	asm("mov $0x0123456789abcdef, %0\n1:\n"
	    ".pushsection runtime_ptr_BOUND, \"a\"; .long 1b - 8 - .; .popsection" : "=r"(bound));
	return address <= bound;
}

int g(int x)
{
#ifdef PATCHED
	return x + 2;
#else
	return x + 1;
#endif
}
