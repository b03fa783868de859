// expect: refused runtime-constant clone.constprop.0
// generic: -DGENERIC
// The kernel's other code calls the clone as the kernel's own compilation has it; how the generic one is called is not
// certain to be the same.
extern unsigned long BOUND;
int g(int);

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

static __attribute__((noinline)) int clone(unsigned long address, int always)
{
#ifdef PATCHED
	if (address == 0)
		return -1;
#endif
	return address <= bound() ? g(always) : 0;
}

int f(unsigned long address)
{
	return clone(address, 3) + 1;
}

int h(unsigned long address)
{
	return clone(address + 1, 3) + 2;
}
