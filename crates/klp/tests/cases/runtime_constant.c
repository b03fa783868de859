// expect: refused runtime-constant f
// The kernel writes the number at boot, into its own code only: in a module the mark would stay.
int f(unsigned long address)
{
	unsigned long bound;

	asm("mov $0x0123456789abcdef, %0\n1:\n"
	    ".pushsection runtime_ptr_BOUND, \"a\"; .long 1b - 8 - .; .popsection" : "=r"(bound));
#ifdef PATCHED
	return address < bound;
#else
	return address <= bound;
#endif
}
