// expect: layout struct a.y: it moves from byte 4 to byte 0; 1 other member moves; the size stays 8 bytes
struct a {
#ifdef PATCHED
	int y, x;
#else
	int x, y;
#endif
};

int f(struct a *a)
{
	return a->x;
}
