// expect: changed f
// expect: outside first, second
// Two variables in one section, and the physical address of each: its own address less that of the kernel's map.
#define PLACED __attribute__((section(".bss..page_aligned"), aligned(64), used))
static char first[64] PLACED, second[64] PLACED;

unsigned long f(int x)
{
#ifdef PATCHED
	if (x < 0)
		return 0;
#endif
	return x ? (unsigned long)first + 0x80000000 : (unsigned long)second + 0x80000000;
}
