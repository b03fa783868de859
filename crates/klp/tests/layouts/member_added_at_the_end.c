// expect: layout struct a.z: the patch adds it: long int (8 bytes) at byte 8; the size goes from 8 to 16 bytes
struct a {
	int x;
	int y;
#ifdef PATCHED
	long z;
#endif
};

int f(struct a *a)
{
	return a->y;
}
