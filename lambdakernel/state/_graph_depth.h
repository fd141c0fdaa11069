/* How deeply a graph is nested, and where to cut it. Included by _graph.c. */

/* 0 when all of `roots` was written down in `s`; 1 when given up, or with an exception. */
static int start_walk(Walk *w, Snapshot *s, PyObject *roots)
{
    w->out = s;
    int failed = walk(w, &PyTuple_GET_ITEM(roots, 0), PyTuple_GET_SIZE(roots));
    PyMem_RawFree(w->types.cells);
    PyMem_RawFree(w->seen);
    s->infos = w->types.infos;
    s->ninfos = w->types.count;
    return failed;
}

typedef struct {
    uint32_t record;
    int height;
    size_t at;           /* of the next word */
} Step;

typedef struct {
    const Snapshot *s;
    Before index;
    int *heights;        /* by record: UNKNOWN, INSIDE, or how deep it is below the next part */
    char *enters;        /* by type: whether its objects are gone into */
    Step *steps;
    size_t nsteps, room;
    int is_cyclic;
} Depth;

enum { UNKNOWN = -2, INSIDE = -1 };

static int is_entered(const Info *info, size_t type, PyObject *plain)
{
    if (type < nbases)
        return info->role == FUNCTION || (info->role == CONTAINER
               && (info->body == LIST_BODY || info->body == TUPLE_BODY || info->body == DICT_BODY
                   || info->body == SET_BODY || info->body == CELL_BODY));
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(plain); i++)
        if (PyTuple_GET_ITEM(plain, i) == (PyObject *)info->type)
            return info->role == CONTAINER && info->body == NO_BODY;
    return 0;
}

/* Go into what a word refers to, if that is an object with something in it that is not known yet. */
static int enter(Depth *d, uintptr_t word)
{
    if (!(word & NOT_OWNED) || word == NOT_OWNED)
        return 0;
    Py_ssize_t k = find_before(&d->index, (PyObject *)(word & ~NOT_OWNED));
    if (k < 0)
        return k == -2 ? -1 : 0;
    int known = d->heights[k];
    if (known != UNKNOWN) {
        d->is_cyclic |= known == INSIDE;
        if (d->nsteps > 0 && known > d->steps[d->nsteps - 1].height)
            d->steps[d->nsteps - 1].height = known;
        return 0;
    }
    d->heights[k] = 0;
    if (!d->enters[d->s->records[k].type])
        return 0;
    if (d->nsteps == d->room) {
        size_t room = d->room ? 2 * d->room : 64;
        Step *steps = PyMem_RawRealloc(d->steps, room * sizeof *steps);
        if (steps == NULL) {
            PyErr_NoMemory();
            return -1;
        }
        d->steps = steps;
        d->room = room;
    }
    d->heights[k] = INSIDE;
    d->steps[d->nsteps++] = (Step){(uint32_t)k, 0, d->index.offsets[k]};
    return 0;
}

static int list_parts(Depth *d, int stride, PyObject *parts)
{
    for (size_t i = 0; i < d->s->nroots; i++) {
        if (enter(d, d->s->words[i]) < 0)
            return -1;
        while (d->nsteps > 0) {
            Step *step = &d->steps[d->nsteps - 1];
            uint32_t record = step->record;
            if (step->at < d->index.offsets[record] + d->s->records[record].count) {
                if (enter(d, d->s->words[step->at++]) < 0)
                    return -1;
                continue;
            }
            int height = step->height + 1;
            if (height >= stride) {
                if (PyList_Append(parts, d->s->records[record].obj) < 0)
                    return -1;
                height = 0;
            }
            d->heights[record] = height;
            if (--d->nsteps > 0 && height > d->steps[d->nsteps - 1].height)
                d->steps[d->nsteps - 1].height = height;
        }
    }
    return 0;
}

/* Types of the objects that were visited and that somebody must know to be plain, before they are gone into. */
static int list_kinds(const Snapshot *s, PyObject *kinds)
{
    for (size_t i = 0; i < s->ninfos; i++)
        if (s->infos[i].role == CONTAINER && s->infos[i].body == NO_BODY
            && PyList_Append(kinds, (PyObject *)s->infos[i].type) < 0)
            return -1;
    return 0;
}

static PyObject *parts_of(Snapshot *s, int stride, PyObject *plain)
{
    Depth d = {.s = s};
    PyObject *parts = PyList_New(0), *kinds = PyList_New(0), *found = NULL;
    if (parts == NULL || kinds == NULL || open_before(&d.index, s) < 0)
        goto end;
    d.heights = PyMem_RawMalloc((s->nrecords + 1) * sizeof *d.heights);
    d.enters = PyMem_RawCalloc(nbases + s->ninfos, 1);
    if (d.heights == NULL || d.enters == NULL) {
        PyErr_NoMemory();
        goto end;
    }
    for (size_t i = 0; i < s->nrecords; i++)
        d.heights[i] = UNKNOWN;
    for (size_t i = 0; i < nbases + s->ninfos; i++)
        d.enters[i] = (char)is_entered(info_at(s->infos, i), i, plain);
    if (list_parts(&d, stride, parts) == 0 && list_kinds(s, kinds) == 0)
        found = Py_BuildValue("OOO", parts, d.is_cyclic ? Py_True : Py_False, kinds);
end:
    forget_before(&d.index);
    PyMem_RawFree(d.heights);
    PyMem_RawFree(d.enters);
    PyMem_RawFree(d.steps);
    Py_XDECREF(parts);
    Py_XDECREF(kinds);
    return found;
}

static PyObject *nested(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *roots, *live, *atoms, *plain, *found = NULL;
    Py_ssize_t limit;
    int stride;
    if (!PyArg_ParseTuple(args, "O!O!nO!iO!:nested", &PyTuple_Type, &roots, &PyDict_Type, &live, &limit,
                          &PyTuple_Type, &atoms, &stride, &PyTuple_Type, &plain))
        return NULL;
    Snapshot *s = PyObject_GC_New(Snapshot, snapshot_type);
    if (s == NULL)
        return NULL;
    memset((char *)s + sizeof(PyObject), 0, sizeof *s - sizeof(PyObject));
    s->leaf = Py_NewRef(Py_None);  /* never called: what is opaque is not gone into */
    Walk w = {.live = live, .atoms = atoms, .limit = limit < 0 ? 0 : (size_t)Py_MIN(limit, UINT32_MAX)};
    int collects = PyGC_Disable();
    int failed = start_walk(&w, s, roots);
    if (!failed)
        found = parts_of(s, stride, plain);
    if (collects)
        PyGC_Enable();
    PyObject_GC_Track(s);
    Py_DECREF(s);
    if (failed && !PyErr_Occurred())
        Py_RETURN_NONE;
    return found;
}
