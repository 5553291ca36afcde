/** Characters of a path or name in a file. */
export const MAX_NAME = 1024;
/** Products in the print of a base. */
export const MAX_PRINT = 64;
