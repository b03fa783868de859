// expect: changed f
// expect: added clone.constprop.0
// expect: outside BOUND, counter, g
// generic: -DGENERIC
// How the kernel's own clone is called is not certain to be the same: the livepatch calls a copy of the generic one,
// which counts in the kernel's own counter.
extern unsigned long BOUND;
int g(int);
static int counter;

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
	counter++;
	return address <= bound() ? g(always) : 0;
}

int f(unsigned long address)
{
#ifdef PATCHED
	if (address == 0)
		return -1;
#endif
	return clone(address, 3) + (address <= bound());
}

int h(unsigned long address)
{
	return clone(address + 1, 3) + 2 + counter;
}
