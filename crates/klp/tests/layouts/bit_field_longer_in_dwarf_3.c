// flags: -gdwarf-3 -gstrict-dwarf
// expect: layout struct a.y: it was unsigned int (4 bits) at bit 3 of byte 4, and is unsigned int (5 bits) at bit 3 of byte 4; 1 other member moves; the size stays 8 bytes
struct a {
	int first;
	unsigned int x : 3;
#ifdef PATCHED
	unsigned int y : 5;
#else
	unsigned int y : 4;
#endif
	unsigned int z : 1;
};

int f(struct a *a)
{
	return a->z;
}
