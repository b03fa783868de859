// expect: changed g
// expect: added __func__.0
// expect: outside _printk
// A number behind the name of a function that the text does not call a line.
int _printk(const char *, ...);

int g(int x)
{
#ifdef PATCHED
	_printk("%s: at most %d\n", __func__, 9);
#else
	_printk("%s: at most %d\n", __func__, 8);
#endif
	return x + 1;
}
