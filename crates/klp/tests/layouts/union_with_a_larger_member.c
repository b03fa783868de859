// expect: layout union u.y: the patch adds it: char[3] (3 bytes) at byte 0; the size stays 8 bytes
union u {
	long x;
#ifdef PATCHED
	char y[3];
#endif
};

int f(union u *u)
{
	return u->x;
}
