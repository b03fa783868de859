// expect: changed f
// Where a text names the line of its file, as fortified memory functions do, the line moved and nothing else.
void warn(const char *);
#define text(number) #number
#define line(number) text(number)

int f(int x)
{
#ifdef PATCHED
	if (x < 0)
		return 0;

#line 100
#endif
	return x;
}

int g(int x)
{
	if (x > 3)
		warn("field \"x\" at drivers/a.c:" line(__LINE__));
	return x + 1;
}
