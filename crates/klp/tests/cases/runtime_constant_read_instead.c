// expect: changed f
// expect: outside BOUND, g
// generic: -DGENERIC
// shipped: -O2
// expect: redirects f,0
// Compiled with the generic macros the function reads the variable that the number comes from.
extern unsigned long BOUND;
int g(void);

static inline unsigned long bound(void)
{
#ifdef GENERIC
	return BOUND;
#else
	unsigned long value;

	asm("mov $0x0123456789abcdef, %0\n1:\n"
	    ".pushsection runtime_ptr_BOUND, \"a\"; .long 1b - 8 - .; .popsection" : "=r"(value));
	return value;
#endif
}

int f(unsigned long address)
{
#ifdef PATCHED
	if (address == 0)
		return -1;
#endif
	return address <= bound() ? g() : 0;
}
