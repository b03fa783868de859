// expect: changed f
// expect: outside set_limit
// A number that is not known to be a line is a change, though it looks like one.
void set_limit(const char *, int);

void f(void)
{
#ifdef PATCHED
	set_limit("unit.c", 17);
#else
	set_limit("unit.c", 16);
#endif
}
