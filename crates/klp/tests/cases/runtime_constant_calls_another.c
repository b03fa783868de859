// expect: refused runtime-constant f
// generic: -DGENERIC
// Both compilations change the same function, but it does not do the same in them.
extern unsigned long BOUND;
int g(int), h(int);

int f(unsigned long address)
{
	unsigned long bound;

#ifdef GENERIC
	bound = BOUND + h(1);
#else
	asm("mov $0x0123456789abcdef, %0\n1:\n"
	    ".pushsection runtime_ptr_BOUND, \"a\"; .long 1b - 8 - .; .popsection" : "=r"(bound));
#endif
#ifdef PATCHED
	return g(1) + (address < bound);
#else
	return g(1) + (address <= bound);
#endif
}
